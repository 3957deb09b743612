// Switch between stacks: six or twelve registers by hand, or ucontext where the machine is another.
//
// Only callee-saved registers cross a call, so saving those is enough; floating-point control words
// are left alone, as kernels hold integers only.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && !defined(GS_FORCE_UCONTEXT)

struct GsContext {
    void* stack_pointer;
};

extern "C" void gs_switch_stacks(void** save, void* load);
asm(R"(
.text
.globl gs_switch_stacks
.hidden gs_switch_stacks
.type gs_switch_stacks, @function
gs_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size gs_switch_stacks, .-gs_switch_stacks
)");

static inline void gs_prepare(GsContext* context, void* stack, size_t bytes, void (*entry)()) {
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
    void** frame = (void**)top;
    *--frame = nullptr;        // the address `entry` would return to: it never does
    *--frame = (void*)entry;   // taken by ret, after which the stack is 8 past a multiple of 16, as after a call
    for (int i = 0; i < 6; ++i) *--frame = nullptr;
    context->stack_pointer = frame;
}

static inline void gs_switch(GsContext* from, GsContext* to) {
    gs_switch_stacks(&from->stack_pointer, to->stack_pointer);
}

#elif defined(__aarch64__) && !defined(GS_FORCE_UCONTEXT)

struct GsContext {
    void* stack_pointer;
};

extern "C" void gs_switch_stacks(void** save, void* load);
asm(R"(
.text
.globl gs_switch_stacks
.hidden gs_switch_stacks
.type gs_switch_stacks, %function
gs_switch_stacks:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size gs_switch_stacks, .-gs_switch_stacks
)");

static inline void gs_prepare(GsContext* context, void* stack, size_t bytes, void (*entry)()) {
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
    uintptr_t* frame = (uintptr_t*)(top - 160);
    for (int i = 0; i < 20; ++i) frame[i] = 0;
    frame[11] = (uintptr_t)entry;  // x30, the link register
    context->stack_pointer = frame;
}

static inline void gs_switch(GsContext* from, GsContext* to) {
    gs_switch_stacks(&from->stack_pointer, to->stack_pointer);
}

#else

#include <ucontext.h>

struct GsContext {
    ucontext_t state;
};

static inline void gs_prepare(GsContext* context, void* stack, size_t bytes, void (*entry)()) {
    getcontext(&context->state);
    context->state.uc_stack.ss_sp = stack;
    context->state.uc_stack.ss_size = bytes;
    context->state.uc_link = nullptr;
    makecontext(&context->state, entry, 0);
}

static inline void gs_switch(GsContext* from, GsContext* to) {
    swapcontext(&from->state, &to->state);
}

#endif
