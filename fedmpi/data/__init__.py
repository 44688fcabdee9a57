"""Data sets and partitions: `mnist`, and `by_digit`, the tutorial's ten clients."""

from fedmpi.data.folder import folder as folder
from fedmpi.data.idx import DataError as DataError
from fedmpi.data.mnist import Mnist as Mnist
from fedmpi.data.mnist import Split as Split
from fedmpi.data.mnist import mnist as mnist
from fedmpi.data.partitions import by_digit as by_digit
