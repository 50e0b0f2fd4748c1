from .compare import Comparison as Comparison
from .entry import entry_of as entry_of
from .entry import write_entries as write_entries
from .entry import write_entry as write_entry
from .ranking import Place as Place
from .ranking import places as places
from .terminal import describe_comparison as describe_comparison
from .writers import write_comparison as write_comparison
