"""Documents as `ufp4 analyze --json` and `ufp4 formats --json` write them, with invented figures."""

LEVELS = {"e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6], "e1m2": [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]}


def expected(name):
    return {"name": name, "block": 16, "levels": LEVELS[name], "eq2_bias": [0.0] * 4 + [-0.125, 0, -0.25, 0],
            "normal_mean_error": [0.01] * 8, "normal_share": [0.125] * 8}


def scheme(name, hadamard, sqnr):
    return {"format": name, "block": 16, "hadamard": hadamard, "rounding": "rtne", "sqnr_db": sqnr, "nmse": 0.01, "alpha": 0.99, "delta": 0.01,
            "bucket_ratio": 0.9, "zero_share": 0.1, "clamped_share": 0, "level_share": [0.125] * 8, "level_mean_error": [-0.01] * 8,
            **({"gain_db": sqnr - 20} if hadamard else {})}


def matrix():
    return {"shape": [64, 32], "nonfinite": 0, "rms": 1, "amax": 5, "crest": 5,
            "schemes": [scheme(n, h, s) for n, h, s in (("e2m1", 0, 20), ("e2m1", 16, 18.5), ("e1m2", 0, 20), ("e1m2", 16, 23.25))]}


def operands():
    records = [{"linear": f"layers.{i}.linear_{kind}", "gemm": gemm, "operand": operand, **matrix()}
               for i in range(2) for kind in ("fc1", "fc2") for gemm, operand in (("fprop", "x"), ("wgrad", "dy"))]
    return {"kind": "operands", "source": "runs/a", "formats": [expected("e2m1"), expected("e1m2")], "operands": records}


def chain():
    agreement = {"alpha": 0.97, "cosine": 0.99, "nmse": 0.01}
    gemm = {"alpha_operands": [0.99, 1], "eta": 0.99, "alone": agreement, "coherence": 0.02, "in_chain": agreement, "eta_product": 0.95}
    linears = [{"linear": f"layers.0.linear_{n}", "fprop": gemm, "dgrad": gemm, "wgrad": {**gemm, "eta_product": None}} for n in ("qkv", "proj", "fc1", "fc2")]
    stream = [{"linear": f"layers.0.linear_{n}", "forward": agreement, "gradient": agreement} for n in ("proj", "fc2")]
    transforms = {"e2m1": (0, 0, 0), "e2m1+rht16": (16, 16, 16), "mine": (16, 0, 16)}
    recipes = [{"name": n, "hadamard": dict(zip(("fprop", "dgrad", "wgrad"), h, strict=True)), "loss": 1.51, "linears": linears, "stream": stream}
               for n, h in transforms.items()]
    return {"kind": "chain", "source": "runs/a", "step": 8, "tokens": 64, "loss_bf16": 1.5, "recipes": recipes}


FIGURE = {"alpha": 0.99, "delta": 0.01, "nmse": 0.01, "sqnr_db": 20.5, "bucket_ratio": 0.9, "level_share": [0.1] * 8, "level_mean_error": [0.0] * 8}


def grid():
    return {"kind": "grid", "grid": "e2m1", "levels": LEVELS["e2m1"], "block": 16, "expected": {"normal": FIGURE},
            "bins": [{"level": v, "lower": v, "upper": v, "asymmetry": 0, "eq2_bias": 0} for v in LEVELS["e2m1"]]}


def sweep():
    ranked = [{"rank": 1, "levels": [0, 1, 2], "format": "", "figures": FIGURE}, {"rank": 40, "levels": [0, 2, 3], "format": "e2m1", "figures": FIGURE}]
    return {"kind": "sweep", "level_count": 8, "largest": 12, "block": 16, "distributions": {"normal": {"grids": 462, "uniform": FIGURE, "ranked": ranked}}}


def sweep_after():
    better = {**FIGURE, "sqnr_db": 29.5}
    document = sweep()
    entry = document["distributions"]["normal"]
    entry |= {"uniform_after_transform": better, "ranked": [{**row, "after_transform": better} for row in entry["ranked"]]}
    return {**document, "ranked_by": "after"}
