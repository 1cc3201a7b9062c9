"""What a Hugging Face config.json and the keys of a ufp4 model say of each other.

Every key of a config.json is read, must have the one value that a ufp4 model has, or changes no result. Any other key
is refused by its name.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from ufp4 import InputError
from ufp4.checks import shown


@dataclass(frozen=True)
class Family:
    """Models of one structure: the keys of a ufp4 model that it fixes, and the names of its norms in a layer."""

    name: str
    architecture: str
    fixed: dict[str, object]
    attention_norm: str = "input_layernorm"
    ffn_norm: str = "post_attention_layernorm"
    slides: bool = False  # whether a 'sliding_window' counts without a switch
    # What transformers takes where config.json lacks a key; a key that is not here is needed.
    defaults: dict[str, object] = field(default_factory=dict)


_PLAIN = {"norm_place": "before", "qk_norm": False, "qk_norm_width": "head", "qkv_bias": False}
_OLMO = _PLAIN | {"norm_place": "after", "qk_norm": True, "qk_norm_width": "all"}
_OLMO_NORMS = {"attention_norm": "post_attention_layernorm", "ffn_norm": "post_feedforward_layernorm"}
FAMILIES = {
    family.name: family
    for family in (
        Family("llama", "LlamaForCausalLM", _PLAIN,
               defaults={"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048}),
        Family("mistral", "MistralForCausalLM", _PLAIN, slides=True, defaults={"rms_norm_eps": 1e-6, "sliding_window": 4096}),
        Family("qwen2", "Qwen2ForCausalLM", _PLAIN | {"qkv_bias": True}, defaults={"rms_norm_eps": 1e-6}),
        Family("qwen3", "Qwen3ForCausalLM", _PLAIN | {"qk_norm": True},
               defaults={"rms_norm_eps": 1e-6, "head_dim": 128}),
        Family("olmo2", "Olmo2ForCausalLM", _OLMO, **_OLMO_NORMS, defaults={"rms_norm_eps": 1e-5}),
        Family("olmo3", "Olmo3ForCausalLM", _OLMO, slides=True, **_OLMO_NORMS,
               defaults={"rms_norm_eps": 1e-5, "sliding_window": 4096}),
    )
}
# The one that an export takes for a structure: the first that has it.
EXPORTED = ("llama", "qwen2", "qwen3", "olmo2")

# Bookkeeping, and what tells of generation or of the start of a training.
_IGNORED = frozenset(
    "_name_or_path architectures bos_token_id chunk_size_feed_forward dtype eos_token_id id2label initializer_range"
    " label2id max_window_layers model_type output_attentions output_hidden_states pad_token_id pretraining_tp"
    " problem_type return_dict torch_dtype transformers_version use_cache".split()
)
# Keys with the only value that a ufp4 model has.
_ONLY = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0,
    "is_encoder_decoder": False,
    "partial_rotary_factor": 1,
}
_READ = frozenset(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim"
    " max_position_embeddings rms_norm_eps tie_word_embeddings rope_parameters rope_theta rope_scaling sliding_window"
    " use_sliding_window layer_types".split()
)


@dataclass
class ModelFacts:
    """A model as ufp4 has it, and the family that its folder is of."""

    keys: dict[str, object]
    family: Family
    head_size: int = field(init=False)
    heads: int = field(init=False)
    kv_heads: int = field(init=False)

    def __post_init__(self):
        self.heads = int(self.keys["heads"])
        self.kv_heads = int(self.keys.get("kv_heads", 0)) or self.heads
        self.head_size = int(self.keys.get("head_size", 0)) or int(self.keys["d_model"]) // self.heads


class _Config:
    """A config.json whose values are asked for with the kind that is expected."""

    def __init__(self, values: dict, where: Path):
        self.values = values
        self.where = where

    def refuse(self, key: str, expected: str):
        found = shown(self.values[key]) if key in self.values else "missing"
        raise InputError(f"{self.where}: '{key}' is {found}, expected {expected}")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            self.refuse(key, "a whole number above 0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        value = default if value is None else value
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            self.refuse(key, "a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value


def read_config(path: Path) -> dict:
    """The object of a JSON file."""
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a folder that transformers' save_pretrained wrote")
    if path.stat().st_size > 2**24:
        raise InputError(f"{path} has {path.stat().st_size} bytes, expected at most {2**24}")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is {shown(values)}, expected an object")
    return values


def model_facts(path: Path, context: int | None = None, name: str = "imported") -> ModelFacts:
    """What a config.json says; with `context`, for sequences of so many tokens."""
    config = _Config(read_config(path), path)
    given = config.values
    kind = given.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        config.refuse("model_type", "one of " + ", ".join(FAMILIES))
    if "quantization_config" in config.values:
        raise InputError(f"{path}: 'quantization_config' is there: the weights are quantized already, expected BF16, FP16 or FP32")
    for key, value in config.values.items():
        if key in _ONLY:
            same = value == _ONLY[key] and isinstance(value, bool) == isinstance(_ONLY[key], bool)
            if not same and value is not None:
                config.refuse(key, f"{shown(_ONLY[key])}, which is all that a ufp4 model can be")
        elif key not in _READ and key not in _IGNORED:
            raise InputError(f"{path}: the key '{key}' ({shown(value)}) is not understood; it may change the model, so it is refused")

    # A null that is written is no default.
    config.values = {key: value for key, value in (family.defaults | given).items() if value is not None}
    heads = config.whole("num_attention_heads")
    width = config.whole("hidden_size")
    longest = config.whole("max_position_embeddings")
    keys: dict[str, object] = {
        "name": name,
        "vocab_size": config.whole("vocab_size"),
        "d_model": width,
        "layers": config.whole("num_hidden_layers"),
        "heads": heads,
        "kv_heads": config.whole("num_key_value_heads", heads if family.name in ("llama", "olmo2", "olmo3") else None),
        "ffn": config.whole("intermediate_size"),
        "context": context or longest,
        "norm_epsilon": config.number("rms_norm_eps"),
        "head_size": 0,
        "tie_embeddings": config.flag("tie_word_embeddings", False),
        **family.fixed,
    }
    if config.values.get("head_dim") is not None:
        size = config.whole("head_dim")
        keys["head_size"] = 0 if width == size * heads else size
    elif width % heads:
        config.refuse("num_attention_heads", f"a divisor of hidden_size, {width}, where 'head_dim' is missing")
    if keys["context"] > longest:
        raise InputError(f"{path}: a context of {keys['context']} tokens, expected at most 'max_position_embeddings', {longest}")
    window = _window(config, family)
    if window and keys["context"] > window:
        raise InputError(
            f"{path}: 'sliding_window' is {window}: tokens further back are not seen, which a ufp4 model cannot do in a "
            f"context of {keys['context']} tokens; expected a context of at most {window} (--context {window})"
        )
    keys |= _rope(config, keys, longest)
    return ModelFacts(keys, family)


def _window(config: _Config, family: Family) -> int:
    """Tokens that a layer looks back; 0: all."""
    layers = config.values.get("layer_types")
    if layers is not None:
        if not isinstance(layers, list) or len(layers) != config.values.get("num_hidden_layers"):
            config.refuse("layer_types", "a list with a word for each layer")
        for kind in layers:
            if kind not in ("full_attention", "sliding_attention"):
                config.refuse("layer_types", f"full_attention and sliding_attention alone, not {shown(kind)}")
        slides = "sliding_attention" in layers
    else:
        slides = config.flag("use_sliding_window", False) or (family.slides and "sliding_window" in config.values)
    return config.whole("sliding_window") if slides else 0


def _rope(config: _Config, keys: dict, longest: int) -> dict[str, object]:
    """The keys of the rotary positions, from 'rope_parameters' or the older 'rope_theta' and 'rope_scaling'."""
    found = config.values.get("rope_parameters")
    key = "rope_parameters"
    if isinstance(found, dict) and found and all(isinstance(value, dict) for value in found.values()):
        kinds = list(found.values())
        used = config.values.get("layer_types") or list(found)
        kinds = [found[kind] for kind in dict.fromkeys(used) if kind in found]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            config.refuse(key, "the same parameters for all kinds of layers")
        found = kinds[0]
    if found is None:
        found, key = config.values.get("rope_scaling"), "rope_scaling"
    if found is None:
        found = {}
    if not isinstance(found, dict):
        config.refuse(key, "an object")
    values = dict(found)
    if "type" in values:  # the oldest name
        values.setdefault("rope_type", values["type"])
        del values["type"]
    if "rope_theta" in config.values:
        values.setdefault("rope_theta", config.values["rope_theta"])
    rope = _Config(values, f"{config.where}, '{key}'")
    kind = values.get("rope_type", "default")
    read = {"rope_type", "rope_theta"}
    result: dict[str, object] = {"rope_theta": rope.number("rope_theta")}
    if kind == "linear":
        read |= {"factor"}
        result |= {"rope_scaling": "linear", "rope_factor": rope.number("factor")}
    elif kind == "llama3":
        read |= {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}
        result |= {
            "rope_scaling": "llama3",
            "rope_factor": rope.number("factor"),
            "rope_original_context": rope.whole("original_max_position_embeddings"),
            "rope_low_factor": rope.number("low_freq_factor"),
            "rope_high_factor": rope.number("high_freq_factor"),
        }
    elif kind == "yarn":
        read |= {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "mscale",
                 "mscale_all_dim", "truncate"}
        if not rope.flag("truncate", True):
            rope.refuse("truncate", "true")
        factor = rope.number("factor")
        result |= {
            "rope_scaling": "yarn",
            "rope_factor": factor,
            "rope_original_context": rope.whole("original_max_position_embeddings", longest),
            "rope_beta_fast": rope.number("beta_fast", 32),
            "rope_beta_slow": rope.number("beta_slow", 1),
            "rope_attention_factor": _yarn_attention(rope, factor),
        }
    elif kind != "default":
        rope.refuse("rope_type", "one of default, linear, llama3, yarn")
    for name in values:
        if name == "partial_rotary_factor" and values[name] == 1:
            continue
        if name not in read:
            raise InputError(f"{rope.where}: the key '{name}' ({shown(values[name])}) is not understood with rope_type '{kind}'")
    return result


def _yarn_attention(rope: _Config, factor: float) -> float:
    if rope.values.get("attention_factor") is not None:
        return rope.number("attention_factor")
    if rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        scale = lambda weight: 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
        return scale(rope.number("mscale")) / scale(rope.number("mscale_all_dim"))
    return 0.0


# The defaults of the keys that tell structures from each other, for the file of a run that lacks them.
_DEFAULTS = _PLAIN | {"tie_embeddings": False, "kv_heads": 0, "head_size": 0, "rope_scaling": "none",
                      "rope_theta": 10000.0, "norm_epsilon": 1e-5}
# Keys of a model that an export takes over; a key that is not here may be of a model that no family has.
_EXPORTED_KEYS = frozenset(_DEFAULTS) | frozenset(
    "name summary vocab_size d_model layers heads ffn context rope_factor rope_original_context rope_low_factor"
    " rope_high_factor rope_beta_fast rope_beta_slow rope_attention_factor".split()
)


def exported_facts(keys: dict[str, object], where: Path) -> ModelFacts:
    """The family for the model of a run."""
    for key in keys:
        if key not in _EXPORTED_KEYS:
            raise InputError(f"{where}: no model of Hugging Face is known that has the model key '{key}' ({shown(keys[key])})")
    keys = _DEFAULTS | keys
    for name in EXPORTED:
        fixed = FAMILIES[name].fixed
        # The width of a norm that is not there tells nothing.
        if all(keys[key] == value for key, value in fixed.items() if key != "qk_norm_width" or fixed["qk_norm"]):
            return ModelFacts(keys, FAMILIES[name])
    told = ", ".join(f"{key} = {keys[key]}" for key in _PLAIN)
    raise InputError(f"{where}: no model of Hugging Face is known with {told}; known are those of " + ", ".join(EXPORTED))


def config_of(facts: ModelFacts, dtype: str, ids: dict[str, object]) -> dict[str, object]:
    """The config.json of an export; `ids` are those of the tokens that begin and end."""
    keys = facts.keys
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": float(keys["rope_theta"])}
    scaling = keys["rope_scaling"]
    if scaling != "none":
        rope |= {"rope_type": scaling, "factor": float(keys["rope_factor"])}
    if scaling in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = int(keys["rope_original_context"])
    if scaling == "llama3":
        rope |= {"low_freq_factor": float(keys["rope_low_factor"]), "high_freq_factor": float(keys["rope_high_factor"])}
    if scaling == "yarn":
        rope |= {"beta_fast": float(keys["rope_beta_fast"]), "beta_slow": float(keys["rope_beta_slow"])}
        if keys["rope_attention_factor"]:
            rope["attention_factor"] = float(keys["rope_attention_factor"])
    return {
        "architectures": [facts.family.architecture],
        "model_type": facts.family.name,
        "vocab_size": int(keys["vocab_size"]),
        "hidden_size": int(keys["d_model"]),
        "intermediate_size": int(keys["ffn"]),
        "num_hidden_layers": int(keys["layers"]),
        "num_attention_heads": facts.heads,
        "num_key_value_heads": facts.kv_heads,
        "head_dim": facts.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": int(keys["context"]),
        "rms_norm_eps": float(keys["norm_epsilon"]),
        "tie_word_embeddings": bool(keys["tie_embeddings"]),
        "rope_parameters": rope,
        "attention_dropout": 0.0,
        "torch_dtype": dtype,
        **ids,
    }
