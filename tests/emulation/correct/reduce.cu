// Correct: sums a volume with warp shuffles, shared memory, a barrier and one atomic for each block.
extern "C" __global__ void reduce(const uint32_t* in, unsigned long long* total, unsigned long long count) {
    __shared__ unsigned long long part[32];
    const unsigned long long stride = (unsigned long long)gridDim.x * blockDim.x;
    unsigned long long sum = 0;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride)
        sum += in[i];
    for (uint32_t distance = 16u; distance; distance /= 2u) sum += __shfl_down_sync(0xffffffffu, sum, distance);
    if ((threadIdx.x & 31u) == 0u) part[threadIdx.x / 32u] = sum;
    __syncthreads();
    if (threadIdx.x == 0u) {
        unsigned long long all = 0;
        for (uint32_t warp = 0; warp < blockDim.x / 32u; ++warp) all += part[warp];
        atomicAdd(total, all);
    }
}
