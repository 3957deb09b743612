// Planted: the same in dynamic shared memory.
extern "C" __global__ void planted(uint32_t* out) {
    DYNAMIC_SHARED(uint32_t, counts);
    atomicAdd(&counts[threadIdx.x & 3u], 1u);
    __syncthreads();
    if (threadIdx.x < 4u) out[threadIdx.x] = counts[threadIdx.x];
}
