// The fiber runtime: runs blocks of threads one after the other, threads in turns, and says what is wrong.
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "fiber.h"

namespace {

const size_t kStackBytes = 256u << 10;
const uint64_t kIdleTurns = 1u << 20;  // turns at atomics alone before a spin is called a deadlock
const uint32_t kMaxThreads = 1024;
const size_t kMaxShared = 227u << 10;  // what a block of compute capability 9.0 may have; static alone is capped by NVRTC

GsContext scheduler;
GsSanitizerFiber scheduler_sanitizer;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<uint32_t> order;
unsigned char* dynamic;  // kMaxShared bytes, pages of their own
size_t dynamic_bytes;
std::vector<void*> stacks;
Fiber* running;
const GsKernel* kernel;
void** kernel_arguments;
uint32_t schedule;
uint64_t random_state;
uint32_t arrived, barrier_sum, barrier_result;
uint64_t idle_turns;
bool progressed;
char launch_order, fence_order;
// What TSan synchronises on: two addresses for the block's barrier, two for each warp. Each block has its own, or a barrier
// of one block would order what the next one does.
std::vector<char> order_objects;
char* block_order;

uint64_t next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

void to_scheduler() {
    Fiber* const self = running;
    gs_sanitizer_before(&self->sanitizer, &scheduler_sanitizer, self->state == LEFT);
    gs_switch(&self->context, &scheduler);
    gs_sanitizer_after(&self->sanitizer, nullptr);
}

void to_fiber(Fiber* fiber) {
    running = fiber;
    gs_place.thread = fiber->thread;
    gs_sanitizer_before(&scheduler_sanitizer, &fiber->sanitizer, false);
    gs_switch(&scheduler, &fiber->context);
    gs_sanitizer_after(&scheduler_sanitizer, nullptr);
}

void fiber_main() {
    gs_sanitizer_after(&running->sanitizer, &scheduler_sanitizer);
    kernel->call(kernel_arguments);
    gs_tsan_release(&launch_order);
    running->state = LEFT;
    progressed = true;
    to_scheduler();
    abort();
}

// Stop this fiber for good: something was diagnosed and the launch will be dropped.
void give_up() {
    for (;;) to_scheduler();
}

void* stack_for(size_t index) {
    while (stacks.size() <= index) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char* base = (char*)mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == (char*)MAP_FAILED) abort();
        mprotect(base, page, PROT_NONE);
        stacks.push_back(base + page);
    }
    return stacks[index];
}

Fiber* warp_base(const Fiber* fiber) { return &fibers[fiber->index / GS_WARP_LANES * GS_WARP_LANES]; }

uint32_t lanes_in_warp(const Fiber* fiber) {
    const size_t first = fiber->index / GS_WARP_LANES * GS_WARP_LANES;
    const size_t rest = fibers.size() - first;
    return rest < GS_WARP_LANES ? (uint32_t)rest : GS_WARP_LANES;
}

uint32_t existing_lanes(const Fiber* fiber) {
    const uint32_t lanes = lanes_in_warp(fiber);
    return lanes == GS_WARP_LANES ? 0xffffffffu : (1u << lanes) - 1u;
}

// Say why nothing can move. The order of the tests goes from the most telling to the least.
void diagnose_standstill() {
    const Fiber* waiting = nullptr;
    const Fiber* at_barrier = nullptr;
    uint32_t left = 0;
    for (const Fiber& fiber : fibers) {
        if (fiber.state == LEFT) ++left;
        if (fiber.state == AT_BARRIER && !at_barrier) at_barrier = &fiber;
        if (fiber.state == AT_COLLECTIVE && !waiting) waiting = &fiber;
    }
    if (waiting) {
        Fiber* base = warp_base(waiting);
        for (uint32_t lane = 0; lane < lanes_in_warp(waiting); ++lane) {
            if (!(waiting->mask >> lane & 1u)) continue;
            const Fiber& other = base[lane];
            if (other.state == LEFT)
                return diagnose("left lane: %s at line %u names lane %u, which has left the kernel",
                                operation_name(waiting->operation), waiting->line, lane);
            if (other.state == AT_COLLECTIVE &&
                (other.mask != waiting->mask || other.operation != waiting->operation || other.line != waiting->line))
                return diagnose("mask mismatch: thread %u in %s with mask %08x at line %u, thread %u in %s with mask %08x at line %u",
                                waiting->index, operation_name(waiting->operation), waiting->mask, waiting->line,
                                other.index, operation_name(other.operation), other.mask, other.line);
        }
        if (at_barrier)
            return diagnose("deadlock: thread %u waits in %s at line %u, thread %u in __syncthreads at line %u", waiting->index,
                            operation_name(waiting->operation), waiting->line, at_barrier->index, at_barrier->line);
        return diagnose("deadlock: thread %u waits in %s at line %u", waiting->index,
                        operation_name(waiting->operation), waiting->line);
    }
    if (at_barrier)
        return diagnose("divergent barrier: %u threads wait in __syncthreads at line %u, %u threads have left the kernel",
                        arrived, at_barrier->line, left);
    diagnose("deadlock: nothing can move");
}

void shuffle_order() {
    for (size_t i = order.size(); i > 1; --i) {
        const size_t j = (size_t)(next_random() % i);
        const uint32_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

// Give every fiber that can move a turn, once, or with `gaps` most of them; false if something is wrong.
bool run_round(size_t* present, bool gaps) {
    if (schedule == GS_RANDOM) shuffle_order();
    bool ran = false;
    progressed = false;
    for (const uint32_t index : order) {
        Fiber& fiber = fibers[index];
        if (fiber.state != READY) continue;
        ran = true;
        if (gaps && !(next_random() & 3u)) continue;
        to_fiber(&fiber);
        if (diagnosis[0]) return false;
        if (fiber.state == LEFT) --*present;
    }
    if (!ran && *present) return diagnose_standstill(), false;
    idle_turns = progressed ? 0 : idle_turns + 1;
    if (idle_turns > kIdleTurns) return diagnose("deadlock: threads spin on atomics and nothing else moves"), false;
    return true;
}

// Run the block that was prepared until all its fibers have left.
bool run_block() {
    size_t present = fibers.size();
    while (present)
        if (!run_round(&present, false)) return false;
    return true;
}

void prepare_block(uint32_t poison, size_t threads, size_t slot) {
    size_t i = 0;
    arrived = barrier_sum = 0;
    idle_turns = 0;
    for (unsigned char* byte = __start_gs_shared; byte < __stop_gs_shared; ++byte, ++i)
        *(volatile unsigned char*)byte = (unsigned char)(poison >> (8 * (i & 3)));
    for (i = 0; i < dynamic_bytes; ++i) ((volatile unsigned char*)dynamic)[i] = (unsigned char)(poison >> (8 * (i & 3)));
    for (Warp& warp : warps) warp.waiting = 0;
    block_order = &order_objects[slot * 2 * (warps.size() + 1)];
    for (size_t index = 0; index < threads; ++index) {
        Fiber& fiber = fibers[index];
        const GsSanitizerFiber kept = fiber.sanitizer;
        memset((void*)&fiber, 0, sizeof(Fiber));
        fiber.sanitizer = kept;
        fiber.index = (uint32_t)index;
        const GsIndex size = gs_place.block_size;
        fiber.thread.x = (uint32_t)(index % size.x);
        fiber.thread.y = (uint32_t)(index / size.x % size.y);
        fiber.thread.z = (uint32_t)(index / size.x / size.y);
        void* stack = stack_for(slot * threads + index);
        gs_prepare(&fiber.context, stack, kStackBytes, fiber_main);
        gs_sanitizer_new(&fiber.sanitizer, stack, kStackBytes);
    }
}

#include "launch.h"
#include "residents.h"

}  // namespace

GsPlace gs_place;

extern "C" uint32_t gs_lane() { return running->index % GS_WARP_LANES; }

extern "C" void* gs_dynamic_shared() { return dynamic; }

extern "C" void gs_fence() {
    gs_tsan_acquire(&fence_order);
    gs_tsan_release(&fence_order);
}

extern "C" void gs_atomic_point() {
    static uint32_t consecutive = 0;
    const bool yield = schedule == GS_RANDOM ? (next_random() & 1u) != 0 : ++consecutive >= 64;
    if (!yield) return;
    consecutive = 0;
    to_scheduler();
}

extern "C" uint32_t gs_barrier(uint32_t kind, uint32_t predicate, uint32_t line) {
    Fiber* const self = running;
    char* const object = &block_order[self->barriers++ & 1u];
    self->operation = kind;
    self->line = line;
    self->state = AT_BARRIER;
    gs_tsan_release(object);
    barrier_sum += predicate;
    if (++arrived == fibers.size()) {
        for (const Fiber& fiber : fibers)
            if (fiber.line != line || fiber.operation != kind) {
                diagnose("divergent barrier: thread %u in __syncthreads at line %u, thread %u at line %u", self->index,
                         line, fiber.index, fiber.line);
                give_up();
            }
        const uint32_t all = (uint32_t)fibers.size();
        barrier_result = kind == GS_BARRIER_COUNT ? barrier_sum
                         : kind == GS_BARRIER_AND ? (barrier_sum == all)
                         : kind == GS_BARRIER_OR  ? (barrier_sum != 0)
                                                  : 0;
        for (Fiber& fiber : fibers) {
            fiber.state = READY;
            fiber.result = barrier_result;
        }
        arrived = barrier_sum = 0;
        progressed = true;
    }
    // Even the last to come gives way, so that the schedule decides who goes on first.
    to_scheduler();
    gs_tsan_acquire(object);
    return (uint32_t)self->result;
}

namespace {

uint64_t shuffled(const Fiber* base, uint32_t lane, uint32_t mask) {
    const Fiber& self = base[lane];
    const uint32_t segment = lane & ~(self.width - 1u);
    uint32_t source = lane;
    switch (self.operation) {
        case GS_SHFL: source = segment + (self.extra & (self.width - 1u)); break;
        case GS_SHFL_UP: source = lane >= segment + self.extra ? lane - self.extra : lane; break;
        case GS_SHFL_DOWN: source = (uint64_t)lane + self.extra < segment + self.width ? lane + self.extra : lane; break;
        default: source = (lane ^ self.extra) < segment + self.width ? lane ^ self.extra : lane; break;
    }
    if (source >= GS_WARP_LANES || !(mask >> source & 1u)) {
        diagnose("unnamed lane: %s at line %u reads lane %u, which mask %08x does not name", operation_name(self.operation),
                 self.line, source, mask);
        return 0;
    }
    return base[source].value;
}

// Every lane of the mask has come: give each its result.
void exchange(Fiber* base, uint32_t mask) {
    uint32_t votes = 0;
    for (uint32_t lane = 0; lane < GS_WARP_LANES; ++lane)
        if ((mask >> lane & 1u) && base[lane].value) votes |= 1u << lane;
    for (uint32_t lane = 0; lane < GS_WARP_LANES; ++lane) {
        if (!(mask >> lane & 1u)) continue;
        Fiber& fiber = base[lane];
        switch (fiber.operation) {
            case GS_SYNCWARP: fiber.result = 0; break;
            case GS_BALLOT: fiber.result = votes; break;
            case GS_ANY: fiber.result = votes != 0; break;
            case GS_ALL: fiber.result = votes == mask; break;
            case GS_MATCH_ANY: {
                uint32_t same = 0;
                for (uint32_t other = 0; other < GS_WARP_LANES; ++other)
                    if ((mask >> other & 1u) && base[other].value == fiber.value) same |= 1u << other;
                fiber.result = same;
                break;
            }
            default: fiber.result = shuffled(base, lane, mask);
        }
        fiber.state = READY;
    }
}

}  // namespace

extern "C" uint64_t gs_collective(uint32_t operation, uint32_t mask, uint64_t value, uint32_t extra, uint32_t width,
                                  uint32_t line) {
    Fiber* const self = running;
    const uint32_t lane = self->index % GS_WARP_LANES;
    Warp& warp = warps[self->index / GS_WARP_LANES];
    char* object = nullptr;
    if (!(mask >> lane & 1u) || (mask & ~existing_lanes(self)) || !width || width > 32 || (width & (width - 1))) {
        diagnose("mask mismatch: lane %u in %s at line %u with mask %08x and width %u, of %u lanes", lane,
                 operation_name(operation), line, mask, width, lanes_in_warp(self));
        give_up();
    }
    if (operation == GS_SYNCWARP) {  // the only warp operation that orders memory
        object = &block_order[2u + 2u * (self->index / GS_WARP_LANES) + (self->syncwarps++ & 1u)];
        gs_tsan_release(object);
    }
    self->operation = operation;
    self->mask = mask;
    self->value = value;
    self->extra = extra;
    self->width = width;
    self->line = line;
    self->state = AT_COLLECTIVE;
    warp.waiting |= 1u << lane;
    if ((warp.waiting & mask) == mask) {
        Fiber* const base = warp_base(self);
        bool agree = true;
        for (uint32_t other = 0; other < GS_WARP_LANES; ++other)
            if (mask >> other & 1u)
                agree &= base[other].mask == mask && base[other].operation == operation && base[other].line == line;
        if (agree) {
            warp.waiting &= ~mask;
            exchange(base, mask);
            progressed = true;
            if (diagnosis[0]) give_up();
            // In random order anyone of the warp may go on first; otherwise the last to come does, one switch less.
            if (schedule == GS_RANDOM) to_scheduler();
            if (object) gs_tsan_acquire(object);
            return self->result;
        }
    }
    to_scheduler();
    if (object) gs_tsan_acquire(object);
    return self->result;
}

extern "C" int gs_launch(const GsKernel* launched, const GsLaunch* launch, void** arguments, char* message,
                         size_t message_bytes) {
    diagnosis[0] = 0;
    if (check_launch(launch)) {
        kernel = launched;
        kernel_arguments = arguments;
        schedule = launch->schedule;
        random_state = launch->seed * 2654435761u + 88172645463325252ull;
        const size_t threads = (size_t)launch->block[0] * launch->block[1] * launch->block[2];
        const uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
        fibers.resize(threads);
        for (Fiber& fiber : fibers) memset((void*)&fiber.sanitizer, 0, sizeof(fiber.sanitizer));
        warps.assign((threads + GS_WARP_LANES - 1) / GS_WARP_LANES, Warp());
        dynamic_bytes = launch->dynamic_bytes;
        if (!dynamic)
            dynamic = (unsigned char*)mmap(nullptr, kMaxShared, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        order.resize(threads);
        for (size_t i = 0; i < threads; ++i)
            order[i] = (uint32_t)(schedule == GS_MIRRORED ? threads - 1 - i : i);
        gs_place.block_size = {launch->block[0], launch->block[1], launch->block[2]};
        gs_place.grid_size = {launch->grid[0], launch->grid[1], launch->grid[2]};
        const uint64_t first = launch->first_block < blocks ? launch->first_block : blocks;
        // TSan would take what two blocks do to the same shared memory for a race: it sees them one after the other.
        const uint64_t residents = gs_tsan_present() || !launch->residents ? 1 : launch->residents;
        order_objects.assign((gs_tsan_present() ? blocks - first : residents) * 2 * (warps.size() + 1), 0);
        gs_sanitizer_launch(&scheduler_sanitizer);
        if (residents > 1) run_together(launch, first, blocks, (size_t)residents);
        for (uint64_t step = first; residents == 1 && step < blocks; ++step) {
            place_block(launch, first, step, blocks);
            gs_tsan_forget(__start_gs_shared, __stop_gs_shared);
            gs_tsan_forget(dynamic, dynamic + dynamic_bytes);
            // TSan tells the threads of different blocks apart by their fibers, and those by their stacks.
            prepare_block(launch->poison, threads, gs_tsan_present() ? (size_t)(step - first) : 0);
            if (!run_block()) break;
        }
        gs_sanitizer_landed(&launch_order);
    }
    if (message_bytes) snprintf(message, message_bytes, "%s", diagnosis);
    return diagnosis[0] ? 1 : 0;
}
