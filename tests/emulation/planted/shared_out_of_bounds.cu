// Planted: one element past the end of a shared array.
extern "C" __global__ void planted(uint32_t* out) {
    __shared__ uint32_t first[32];
    uint32_t* const place = first + threadIdx.x;
    place[1] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = first[threadIdx.x];
}
