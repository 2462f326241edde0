"""Cross-correlation with zero padding, by loops over the output and the kernel's taps."""

import numpy as np


def conv2d(x, kernel, *, stride=1, dilation=1):
    """[B,H,W,C], [k,k,C,D] -> [B,h,w,D]; padding dilation * (k // 2), as PyTorch's ResNet."""
    batch, height, width, _ = x.shape
    size = kernel.shape[0]
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    y = np.zeros((batch, rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            for u in range(size):
                for v in range(size):
                    r = stride * i + dilation * (u - size // 2)
                    c = stride * j + dilation * (v - size // 2)
                    if 0 <= r < height and 0 <= c < width:
                        y[:, i, j] += x[:, r, c] @ kernel[u, v]
    return y


def conv2d_gradients(x, kernel, grad, *, stride=1, dilation=1):
    """Gradients of sum(conv2d(x, kernel) * grad) with respect to x and kernel."""
    _, height, width, _ = x.shape
    size = kernel.shape[0]
    grad_x, grad_kernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for i in range(grad.shape[1]):
        for j in range(grad.shape[2]):
            for u in range(size):
                for v in range(size):
                    r = stride * i + dilation * (u - size // 2)
                    c = stride * j + dilation * (v - size // 2)
                    if 0 <= r < height and 0 <= c < width:
                        grad_x[:, r, c] += grad[:, i, j] @ kernel[u, v].T
                        grad_kernel[u, v] += x[:, r, c].T @ grad[:, i, j]
    return grad_x, grad_kernel


def max_pool(x):
    """3x3 maximum at stride 2 over the pixels inside."""
    batch, height, width, channels = x.shape
    y = np.zeros((batch, (height + 1) // 2, (width + 1) // 2, channels))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            window = x[:, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
            y[:, i, j] = window.max((1, 2))
    return y


def conv_transpose2d(x, kernel):
    """Each input position adds its 3x3 patch around twice its place; what sticks out is cut."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 1, 2 * width + 1, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            for u in range(3):
                for v in range(3):
                    y[:, 2 * i + u, 2 * j + v] += x[:, i, j] @ kernel[u, v]
    return y[:, 1:-1, 1:-1]
