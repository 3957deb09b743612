// A kernel's thread, a warp, and the one diagnosis that a launch can end with.
#pragma once

#include <stdarg.h>
#include <stdio.h>

#include "context.h"
#include "runtime.h"
#include "sanitizers.h"

namespace {

enum State : uint8_t { READY, AT_BARRIER, AT_COLLECTIVE, LEFT };

struct Fiber {
    GsContext context;
    GsIndex thread;
    uint32_t index;
    State state;
    uint32_t operation, mask, extra, width, line;  // what it deposited, valid while it waits
    uint64_t value, result;
    uint32_t barriers, syncwarps;  // how many it has passed: the parity picks the object that TSan sees
    GsSanitizerFiber sanitizer;
};

struct Warp {
    uint32_t waiting;  // lanes that have deposited
};

char diagnosis[2048];

void diagnose(const char* format, ...) {
    if (diagnosis[0]) return;  // the first is the cause
    va_list list;
    va_start(list, format);
    vsnprintf(diagnosis, sizeof(diagnosis), format, list);
    va_end(list);
}

const char* operation_name(uint32_t operation) {
    static const char* const names[] = {"?",   "__syncwarp",       "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync", "__ballot_sync", "__any_sync",  "__all_sync", "__match_any_sync"};
    return operation <= GS_MATCH_ANY ? names[operation] : "?";
}

}  // namespace
