"""Compiled kernels, to be called from Python and inside computations: softmax regression.

For example ``fm.kernels.softmax_sgd_step(batch.x, batch.y, model.weights, model.bias, learning_rate)``.
"""

from fedmpi.local.jit.kernel import Kernel as Kernel
from fedmpi.local.kernels.softmax import softmax_evaluate as softmax_evaluate
from fedmpi.local.kernels.softmax import softmax_gradient as softmax_gradient
from fedmpi.local.kernels.softmax import softmax_loss as softmax_loss
from fedmpi.local.kernels.softmax import softmax_predict as softmax_predict
from fedmpi.local.kernels.softmax import softmax_sgd_step as softmax_sgd_step
from fedmpi.local.kernels.softmax import softmax_sgd_step_into as softmax_sgd_step_into
