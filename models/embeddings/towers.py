"""The two towers: vectors of items and users in one space, each a sum of the embeddings of features.

An item is the sum of its id, its content features and its publisher's vector, scaled to length 1. A user is
the weighted sum of the vectors of the items clicked last, of preferred categories and followed creators (with
the embeddings that items have for them), of country and device, scaled to length 1. A user's id is not used.
Before anything is learnt, items have the vectors of ``headrace.models.embeddings.content``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.bags import add_bags
from headrace.models.embeddings.content import OWN_WEIGHT, unit
from headrace.models.embeddings.directions import DIM, F32, KIND, U8, U64, key_of, keys_of
from headrace.models.embeddings.features import I64, Features, ItemFeatures, Users
from headrace.models.embeddings.table import EmbeddingTable
from headrace.streams.tables.key_index import KeyIndex

#: Default for the largest number of learnt embeddings.
MAX_ROWS = 1_000_000
#: So many of the items clicked last count.
PLACES = 20
#: Learnt weights: of the items clicked last, the newest first; of preferred categories, followed creators.
PREFERRED, FOLLOWED = PLACES, PLACES + 1
N_WEIGHTS = PLACES + 2
#: The weight of country and device, which is not learnt: their embeddings are theirs alone.
ONE = N_WEIGHTS
_FADE = 0.8
#: Added to ids of countries and devices, so that an unknown one has an embedding like any other.
_UNKNOWN = np.uint64(1)


def first_weights() -> F32:
    """Return the weights before anything is learnt, float32 ``(N_WEIGHTS,)``."""
    return np.array([_FADE**place for place in range(PLACES)] + [0.5, 0.5], np.float32)


@dataclass(slots=True)
class Bags:
    """Members of bags (see ``bags.pyi``): row numbers and, for each, which weight it has."""

    members: I64
    weights: I64
    bounds: I64


@dataclass(slots=True)
class Embedded:
    """The different features of a batch.

    Attributes
    ----------
    keys, kinds
        uint64 and uint8 ``(m,)``, all different.
    places
        Of every feature given, its number among these, int64 ``(n,)``.
    """

    keys: U64
    kinds: U8
    places: I64

    @classmethod
    def of(cls, keys: U64, kinds: U8) -> Embedded:
        """Number the different ones among ``keys``, in the order in which they come first."""
        places, first = KeyIndex().take(keys)
        return cls(keys[first], kinds[first], places)


def with_ids(items: U64, features: Features) -> tuple[U64, U8, I64]:
    """Return keys and kinds of the features of items, the id as the last of each, and their bounds."""
    n = len(items)
    bounds = features.bounds + np.arange(n + 1)
    keys, kinds = np.empty(bounds[-1], np.uint64), np.empty(bounds[-1], np.uint8)
    content = np.ones(len(keys), bool)
    content[bounds[1:] - 1] = False
    keys[content], kinds[content] = features.keys, features.kinds
    keys[bounds[1:] - 1], kinds[bounds[1:] - 1] = keys_of("item", items), KIND["item"]
    return keys, kinds, bounds


def user_features(users: Users, features: ItemFeatures) -> tuple[U64, U8, I64, I64]:
    """Return keys, kinds, weights and users (all ``(n,)``) of the features of users that are no items."""
    columns = [
        (features.categories(users.preferred), KIND["category"], PREFERRED),
        (features.creators(users.followed), KIND["creator"], FOLLOWED),
        (keys_of("country", users.country + _UNKNOWN)[:, None], KIND["country"], ONE),
        (keys_of("device", users.device + _UNKNOWN)[:, None], KIND["device"], ONE),
    ]
    keys = np.concatenate([k for k, _, _ in columns], axis=1)
    kinds = np.repeat([c for _, c, _ in columns], [k.shape[1] for k, _, _ in columns]).astype(np.uint8)
    weights = np.repeat([w for _, _, w in columns], [k.shape[1] for k, _, _ in columns])
    user, column = np.nonzero(keys)
    return keys[user, column], kinds[column], weights[column], user


def scaled(sums: F32) -> tuple[F32, F32]:
    """Return rows scaled to length 1, and their lengths ``(n,)``; rows of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", sums, sums))
    safe = np.where(lengths > 0, lengths, 1).astype(sums.dtype)
    return sums / safe[:, None], lengths


class Towers:
    """The model: embeddings by feature, weights of the parts of a user, a map for publishers' vectors.

    Attributes
    ----------
    table
        The learnt embeddings.
    weights
        float32 ``(N_WEIGHTS,)``.
    own_map
        Publishers' vectors are multiplied by it, float32 ``(DIM, DIM)``.
    version
        Empty before the model was encoded.
    """

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self.table = EmbeddingTable(max_rows)
        self.weights = first_weights()
        self.own_map: F32 = np.eye(DIM, dtype=np.float32) * OWN_WEIGHT
        self.version = ""

    def item_vectors(self, items: U64, features: ItemFeatures) -> F32:
        """Return unit vectors of items, float32 ``(n, DIM)``; zeros where nothing is known."""
        return self.vectors_of(items, features.features_of(items))

    def vectors_of(self, items: U64, content: Features) -> F32:
        """Return what ``item_vectors`` returns, of items whose features are given."""
        keys, kinds, bounds = with_ids(items, content)
        found = Embedded.of(keys, kinds)
        out = np.zeros((len(items), DIM), np.float32)
        ones = np.ones(len(keys), np.float32)
        add_bags(self.table.vectors(found.keys, found.kinds), found.places, ones, bounds, out)
        out[content.own_at] += content.own @ self.own_map
        return scaled(out)[0]

    def item_vector(self, item: int, keys: U64, kinds: U8, own: F32 | None) -> F32:
        """Return the unit vector of one item, float32 ``(DIM,)``; about as ``item_vectors``, but quicker.

        Parameters
        ----------
        item
            Its key.
        keys, kinds, own
            Its ``content_features`` and ``own_vector``.
        """
        every = np.append(keys, key_of("item", item))
        parts = self.table.vectors(every, np.append(kinds, np.uint8(KIND["item"])))
        out: F32 = parts.sum(0)
        if own is not None:
            out += own @ self.own_map
        return unit(out)

    def user_vectors(self, users: Users, recent: F32, features: ItemFeatures) -> F32:
        """Return unit vectors of users, float32 ``(n, DIM)``; zeros where nothing is known.

        Parameters
        ----------
        recent
            The vectors of ``users.recent``, of this version, float32 ``(n, places, DIM)``; zeros where
            unknown.
        """
        recent = recent[:, :PLACES]
        clicked: F32 = np.einsum("p,npd->nd", self.weights[: recent.shape[1]], recent)
        return scaled(clicked + self.rest_of(users, features))[0]

    def rest_of(self, users: Users, features: ItemFeatures) -> F32:
        """Return the part of the user sums that is not from clicked items, float32 ``(n, DIM)``."""
        keys, kinds, weights, user = user_features(users, features)
        found = Embedded.of(keys, kinds)
        bounds = np.searchsorted(user, np.arange(len(users) + 1))
        out = np.zeros((len(users), DIM), np.float32)
        factors = np.append(self.weights, np.float32(1))[weights]
        add_bags(self.table.vectors(found.keys, found.kinds), found.places, factors, bounds, out)
        return out


def recent_vectors(users: Users, towers: Towers, features: ItemFeatures) -> F32:
    """Return the vectors of the items that users clicked last, float32 ``(n, PLACES, DIM)``."""
    recent = np.zeros((len(users), PLACES), np.uint64)
    given = users.recent[:, :PLACES]
    recent[:, : given.shape[1]] = given
    items, places = np.unique(recent, return_inverse=True)
    vectors = towers.item_vectors(items, features)
    vectors[items == 0] = 0
    return vectors[places.reshape(recent.shape)]
