"""What TensorFlow Federated's tutorial prints.

"Custom Federated Algorithms, Part 2: Implementing Federated Averaging", in its first form (2019): every number and type
of its text, under the names that `fedmpi.tutorial` gives them.  The numbers are those of float32 arithmetic on the real
MNIST and have been computed again with an independent program; all agree to 7 significant digits.
"""

from __future__ import annotations

# The largest relative difference of two correct float32 computations, which may add in different orders.
TOLERANCE = 2e-6

ROUNDS, BATCH_SIZE, CLIENTS = 5, 100, 10

NUMBERS = {
    "batch_loss(initial_model, sample_batch)": 2.3025851,
    "batch_loss after batch_train 1": 0.19690023,
    "batch_loss after batch_train 2": 0.13176313,
    "batch_loss after batch_train 3": 0.10113225,
    "batch_loss after batch_train 4": 0.08273812,
    "batch_loss after batch_train 5": 0.070301384,
    "local_eval(initial_model, train[5])": 23.025854,
    "local_eval(locally_trained_model, train[5])": 0.43484688,
    "local_eval(locally_trained_model, train[0])": 74.50075,
    "federated_eval(initial_model, train)": 23.025852,
    "federated_eval(locally_trained_model, train)": 54.432625,
    "round 0, loss": 21.60552215576172,
    "round 1, loss": 20.365678787231445,
    "round 2, loss": 19.27480125427246,
    "round 3, loss": 18.311111450195312,
    "round 4, loss": 17.45725440979004,
    "federated_eval(initial_model, test)": 22.795593,
    "federated_eval(model after 5 rounds, test)": 17.278767,
}

TYPES = {
    "BATCH_TYPE": "<x=float32[?,784],y=int32[?]>",
    "MODEL_TYPE": "<weights=float32[784,10],bias=float32[10]>",
    "batch_loss": (
        "(<model=<weights=float32[784,10],bias=float32[10]>,batch=<x=float32[?,784],y=int32[?]>> -> float32)"
    ),
    "batch_train": (
        "(<initial_model=<weights=float32[784,10],bias=float32[10]>,batch=<x=float32[?,784],y=int32[?]>,"
        "learning_rate=float32> -> <weights=float32[784,10],bias=float32[10]>)"
    ),
    "local_train": (
        "(<initial_model=<weights=float32[784,10],bias=float32[10]>,learning_rate=float32,"
        "all_batches=<x=float32[?,784],y=int32[?]>*> -> <weights=float32[784,10],bias=float32[10]>)"
    ),
    "local_eval": (
        "(<model=<weights=float32[784,10],bias=float32[10]>,all_batches=<x=float32[?,784],y=int32[?]>*> -> float32)"
    ),
    "SERVER_MODEL_TYPE": "<weights=float32[784,10],bias=float32[10]>@SERVER",
    "CLIENT_DATA_TYPE": "{<x=float32[?,784],y=int32[?]>*}@CLIENTS",
}
