// Planted: a counter in shared memory is taken to start at zero.
extern "C" __global__ void planted(uint32_t* out) {
    __shared__ uint32_t count;
    atomicAdd(&count, 1u);
    __syncthreads();
    out[blockIdx.x] = count;
}
