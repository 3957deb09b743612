// What the shim (compiled with the kernels) and the runtime (compiled apart) agree on.
//
// A kernel's thread is a fiber; a block is a set of fibers that switch at barriers and warp
// operations only; blocks run one after the other, or some at once (residents.h). The runtime is never built with a sanitizer,
// so that its own bookkeeping neither raises alarms nor orders memory.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GS_WARP_LANES 32u

enum GsOperation {
    GS_NONE = 0,
    GS_SYNCWARP,
    GS_SHFL,
    GS_SHFL_UP,
    GS_SHFL_DOWN,
    GS_SHFL_XOR,
    GS_BALLOT,
    GS_ANY,
    GS_ALL,
    GS_MATCH_ANY,
};

enum GsBarrier { GS_BARRIER = 0, GS_BARRIER_COUNT, GS_BARRIER_AND, GS_BARRIER_OR };

enum GsSchedule { GS_IN_ORDER = 0, GS_MIRRORED = 1, GS_RANDOM = 2 };

enum GsParameter { GS_SCALAR = 0, GS_POINTER = 1 };

struct GsIndex {
    uint32_t x, y, z;
};

// What the running fiber reads as threadIdx, blockIdx, blockDim and gridDim.
struct GsPlace {
    GsIndex thread, block, block_size, grid_size;
};

// One launch. Mirrored in build.py as a ctypes.Structure: change both.
struct GsLaunch {
    uint32_t grid[3];
    uint32_t block[3];
    uint64_t dynamic_bytes;
    uint64_t seed;
    uint64_t first_block;  // blocks below this linear index are not run (for grids too large to run whole)
    uint32_t schedule;     // GsSchedule: the order in which threads get their turn
    uint32_t reverse_blocks;
    uint32_t poison;       // word written over all shared memory before each block
    uint32_t residents;    // blocks that are under way at once, in turns; 0 and 1 run one after the other
};

// One kernel as the shim registers it. Mirrored in build.py.
struct GsKernel {
    const char* name;
    void (*call)(void** arguments);
    uint32_t parameter_count;
    const uint32_t* sizes;  // bytes of each parameter
    const uint32_t* kinds;  // GsParameter of each parameter
};

extern "C" {

extern GsPlace gs_place;

// Run one launch. Returns 0, or 1 with a diagnosis in `message`; the fibers of a failed launch are dropped.
int gs_launch(const GsKernel* kernel, const GsLaunch* launch, void** arguments, char* message, size_t message_bytes);

// Called by kernels through the shim.
uint32_t gs_barrier(uint32_t kind, uint32_t predicate, uint32_t line);
uint64_t gs_collective(uint32_t operation, uint32_t mask, uint64_t value, uint32_t extra, uint32_t width, uint32_t line);
void gs_atomic_point();
void gs_fence();
void* gs_dynamic_shared();
uint32_t gs_lane();

// The section that holds every __shared__ array; absent when no kernel declares one.
extern unsigned char __start_gs_shared[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_gs_shared[] __attribute__((weak, visibility("hidden")));

}  // extern "C"
