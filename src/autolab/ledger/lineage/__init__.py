"""What earlier trials teach: a bounded slice of the ledger for one prompt, and the kin of a trial."""

from autolab.ledger.dead_ends import FAILED
from autolab.ledger.lineage.budget import fit
from autolab.ledger.lineage.kin import alike, ancestors
from autolab.ledger.lineage.slice import Lineage, lineage_slice

__all__ = ["FAILED", "Lineage", "alike", "ancestors", "fit", "lineage_slice"]
