//! buffers and kernels: forward and backward of each op, and the devices that run them
