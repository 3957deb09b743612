// Planted: threads meet at two different barriers.
extern "C" __global__ void planted(uint32_t* out) {
    if (threadIdx.x < 32u) {
        __syncthreads();
        out[threadIdx.x] = 1u;
    } else {
        __syncthreads();
        out[threadIdx.x] = 2u;
    }
}
