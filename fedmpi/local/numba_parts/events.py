"""When Numba compiles, as it tells whoever listens."""

from numba.core import event as event

# Listeners hear when "numba:compile" begins and ends, in the thread that compiles.
RELIED_ON = (
    "numba.core.event.Event.is_start",
    "numba.core.event.Listener",
    "numba.core.event.register",
    "numba.core.event.unregister",
)
