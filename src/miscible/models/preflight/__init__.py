"""Whether models go together, told from configs and headers before anything is downloaded."""

from miscible.models.preflight.architecture import check_architecture
from miscible.models.preflight.chat_template import check_chat_templates
from miscible.models.preflight.configs import check_configs
from miscible.models.preflight.finding import Finding, Severity, sorted_findings
from miscible.models.preflight.lineage import check_licences, check_lineage
from miscible.models.preflight.storage import check_storage
from miscible.models.preflight.subject import Place, Subject, open_subject
from miscible.models.preflight.vocabulary import check_vocabulary

__all__ = [
    "Finding", "Place", "Severity", "Subject", "check_architecture", "check_chat_templates",
    "check_configs", "check_licences", "check_lineage", "check_storage", "check_vocabulary",
    "open_subject", "sorted_findings",
]  # fmt: skip
