// Planted: a shuffle within the lower half reads a lane of the upper half.
extern "C" __global__ void planted(uint32_t* out) {
    if (threadIdx.x < 16u) out[threadIdx.x] = __shfl_sync(0x0000ffffu, threadIdx.x, threadIdx.x + 1u);
}
