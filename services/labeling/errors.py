"""What labeling refuses, as branches of the shared tree.

InvalidMessage
|-- UnknownClass        the dataset has no such class
`-- BadDataset          a dataset without classes, or with one twice
NotFound
|-- UnknownAsset        neither seen on the bus nor known to ingest
|-- UnknownAnnotation   the asset has no label
|-- UnknownTask
|-- UnknownDataset
`-- UnknownVersion
Conflict
|-- ClassesFixed        a dataset that has versions keeps the order of its classes
|-- AssetDeleted        nobody labels what was forgotten
`-- NothingToCut        no label in force belongs to the dataset
"""

from __future__ import annotations

from services.common.errors import Conflict, InvalidMessage, NotFound


class UnknownClass(InvalidMessage):
    """The label names a class that the dataset does not have."""

    default_reason = "UNKNOWN_CLASS"


class BadDataset(InvalidMessage):
    """A dataset needs a name and distinct classes."""

    default_reason = "BAD_DATASET"


class UnknownAsset(NotFound):
    """Neither seen on the bus nor known to ingest."""

    default_reason = "UNKNOWN_ASSET"


class UnknownAnnotation(NotFound):
    """The asset has no label."""

    default_reason = "UNKNOWN_ANNOTATION"


class UnknownTask(NotFound):
    """No task has that id."""

    default_reason = "UNKNOWN_TASK"


class UnknownDataset(NotFound):
    """No dataset has that name."""

    default_reason = "UNKNOWN_DATASET"


class UnknownVersion(NotFound):
    """The dataset is known, the version is not."""

    default_reason = "UNKNOWN_DATASET_VERSION"


class ClassesFixed(Conflict):
    """Outputs of trained models stand in the order of the classes; only appending is possible."""

    default_reason = "CLASSES_FIXED"


class AssetDeleted(Conflict):
    """The asset was deleted; nobody labels what was forgotten."""

    default_reason = "ASSET_DELETED"


class NothingToCut(Conflict):
    """No label in force belongs to the dataset."""

    default_reason = "NOTHING_TO_CUT"
