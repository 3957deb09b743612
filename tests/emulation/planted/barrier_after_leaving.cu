// Planted: a warp leaves before the barrier that the others wait at.
extern "C" __global__ void planted(uint32_t* out) {
    if (threadIdx.x >= 32u) return;
    __syncthreads();
    out[threadIdx.x] = 1u;
}
