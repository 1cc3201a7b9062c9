// How signals end a training.
#pragma once

#include <atomic>

namespace ufp4::app {

// From here on SIGINT, SIGTERM and SIGHUP set this flag; another one more than a second later ends the program as
// usual. A SIGHUP that was ignored before, as by nohup(1), stays ignored. A reader of the output that goes away
// (SIGPIPE) ends nothing.
const std::atomic<bool>& stopped_by_signal();

}  // namespace ufp4::app
