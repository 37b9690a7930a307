"""The cases, grouped by the promise that they test. Each group opens with what it leaves out."""

from electctl.testing.cases.checkpoints import Checkpoints, LinkedCheckpoints
from electctl.testing.cases.ensemble import EnsembleConformance
from electctl.testing.cases.eviction import Eviction
from electctl.testing.cases.exclusion import Exclusion
from electctl.testing.cases.forks import Forks, LinkedForks
from electctl.testing.cases.loss import LinkedLoss, Loss
from electctl.testing.cases.names import Names
from electctl.testing.cases.observation import LinkedObservation, Observation
from electctl.testing.cases.outage import Outage
from electctl.testing.cases.queueing import LinkedQueueing, Queueing
from electctl.testing.cases.receipts import LinkedReceipts, Receipts
from electctl.testing.cases.sweeping import Sweeping
from electctl.testing.cases.unknown import Unknown


class StoreConformance(
    Exclusion,
    Forks,
    Queueing,
    Loss,
    Receipts,
    Observation,
    Eviction,
    Checkpoints,
    Names,
    Sweeping,
):
    """What every backend must pass, also one whose store no network leads to (a file)."""


class BackendConformance(
    StoreConformance,
    LinkedForks,
    LinkedLoss,
    LinkedQueueing,
    LinkedObservation,
    LinkedCheckpoints,
    LinkedReceipts,
    Outage,
    Unknown,
):
    """All of it: for a store that is reached over TCP, through links that the suite breaks."""


__all__ = ["BackendConformance", "EnsembleConformance", "StoreConformance"]
