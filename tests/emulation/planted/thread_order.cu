// Planted: positions are handed out in the order in which threads happen to run.
extern "C" __global__ void planted(uint32_t* out) {
    __shared__ uint32_t cursor;
    if (threadIdx.x == 0u) cursor = 0u;
    __syncthreads();
    out[atomicAdd(&cursor, 1u)] = threadIdx.x;
}
