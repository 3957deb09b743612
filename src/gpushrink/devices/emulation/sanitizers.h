// Tell ASan and TSan about fibers. All hooks are weak: in a plain build they are absent and cost a test.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

extern "C" {
void* __tsan_get_current_fiber(void) __attribute__((weak));
void* __tsan_create_fiber(unsigned flags) __attribute__((weak));
void __tsan_destroy_fiber(void* fiber) __attribute__((weak));
void __tsan_switch_to_fiber(void* fiber, unsigned flags) __attribute__((weak));
void __tsan_acquire(void* address) __attribute__((weak));
void __tsan_release(void* address) __attribute__((weak));
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t bytes) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* bytes) __attribute__((weak));
}

struct GsSanitizerFiber {
    void* tsan;
    void* fake_stack;
    const void* bottom;
    size_t bytes;
};

static std::vector<void*> gs_tsan_fibers;  // alive until the launch ends: a race needs both sides

static inline bool gs_tsan_present() { return __tsan_create_fiber != nullptr; }

static inline void gs_tsan_acquire(void* object) {
    if (__tsan_acquire) __tsan_acquire(object);
}

static inline void gs_tsan_release(void* object) {
    if (__tsan_release) __tsan_release(object);
}

// Name the memory new, so that one block's use of it does not race with the next one's: mapping a page
// again is what makes TSan forget. The bytes are kept, as other data may share the first and last page.
static inline void gs_tsan_forget(unsigned char* start, unsigned char* stop) {
    if (!gs_tsan_present() || start == stop) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char* from = (unsigned char*)((uintptr_t)start / page * page);
    const size_t bytes = ((uintptr_t)stop - (uintptr_t)from + page - 1) / page * page;
    // Byte by byte: memcpy would be intercepted, and its reads taken for a race with the last block.
    std::vector<unsigned char> kept(bytes);
    for (size_t i = 0; i < bytes; ++i) kept[i] = ((volatile unsigned char*)from)[i];
    mmap(from, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (size_t i = 0; i < bytes; ++i) ((volatile unsigned char*)from)[i] = kept[i];
}

static inline void gs_sanitizer_launch(GsSanitizerFiber* scheduler) {
    memset(scheduler, 0, sizeof(*scheduler));
    if (gs_tsan_present()) scheduler->tsan = __tsan_get_current_fiber();
}

static inline void gs_sanitizer_new(GsSanitizerFiber* fiber, void* stack, size_t bytes) {
    fiber->bottom = stack;
    fiber->bytes = bytes;
    fiber->fake_stack = nullptr;
    if (gs_tsan_present()) {
        fiber->tsan = __tsan_create_fiber(0);
        gs_tsan_fibers.push_back(fiber->tsan);
    }
}

static inline void gs_sanitizer_before(GsSanitizerFiber* from, GsSanitizerFiber* to, bool leaving) {
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(leaving ? nullptr : &from->fake_stack, to->bottom, to->bytes);
    if (gs_tsan_present()) __tsan_switch_to_fiber(to->tsan, 1);  // 1: the switch itself orders nothing
}

// `scheduler` is given on a fiber's first entry only: it learns the stack it was entered from.
static inline void gs_sanitizer_after(GsSanitizerFiber* self, GsSanitizerFiber* scheduler) {
    if (!__sanitizer_finish_switch_fiber) return;
    if (scheduler)
        __sanitizer_finish_switch_fiber(nullptr, &scheduler->bottom, &scheduler->bytes);
    else
        __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
}

static inline void gs_sanitizer_landed(void* launch_order) {
    gs_tsan_acquire(launch_order);
    if (__tsan_destroy_fiber)
        for (void* fiber : gs_tsan_fibers) __tsan_destroy_fiber(fiber);
    gs_tsan_fibers.clear();
}
