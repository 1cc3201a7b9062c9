// How the threads of a training wait for each other.
#pragma once

namespace ufp4::app {

// Lets OpenMP threads sleep at barriers instead of spinning: where another process has a part of the cores, a thread
// that spins takes the time of the one it waits for, and training is many times slower. OpenMP reads its policy when it
// is loaded, so this starts the program over in the same process, once, with the policy set. Call it before there is
// anything to lose. Does nothing where the user has chosen a policy.
void sleep_at_barriers();

}  // namespace ufp4::app
