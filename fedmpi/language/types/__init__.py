"""Types: what values of the language are, as immutable objects.

Here stand the classes, their texts, the walk over them, how they are read from what users write, and what may stand
for what.
Not here: expressions, values, anything of one operator.  Files in this folder import the classes from `classes`.
"""

from fedmpi.language.types import assignability, text, to_type, walking
from fedmpi.language.types.classes import AbstractType as AbstractType
from fedmpi.language.types.classes import FederatedType as FederatedType
from fedmpi.language.types.classes import FunctionType as FunctionType
from fedmpi.language.types.classes import PlacementType as PlacementType
from fedmpi.language.types.classes import SequenceType as SequenceType
from fedmpi.language.types.classes import StructType as StructType
from fedmpi.language.types.classes import StructWithPythonType as StructWithPythonType
from fedmpi.language.types.classes import TensorType as TensorType
from fedmpi.language.types.classes import Type as Type
from fedmpi.language.types.classes import methods
from fedmpi.language.types.classes import no_such_element as no_such_element
from fedmpi.language.types.classes import struct_of as struct_of
from fedmpi.language.types.walking import contains as contains
from fedmpi.language.types.walking import is_federated as is_federated
from fedmpi.language.types.walking import type_contains as type_contains

methods.compact, methods.formatted, methods.constructor = text.compact, text.formatted, text.constructor
methods.assignable, methods.contains, methods.read = assignability.assignable, walking.contains, to_type.read_type
