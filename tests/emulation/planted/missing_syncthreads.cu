// Planted: no __syncthreads between the write of a warp and the read of another.
extern "C" __global__ void planted(uint32_t* out) {
    __shared__ uint32_t turn[64];
    turn[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = turn[63u - threadIdx.x];
}
