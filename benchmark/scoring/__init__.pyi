from .examples import choose_examples as choose_examples
from .examples import choose_fidelity_examples as choose_fidelity_examples
from .run_folder import RunFolder as RunFolder
from .score import score_in_memory as score_in_memory
from .score import score_source as score_source
from .settings import ScoreSettings as ScoreSettings
from .tally import Tally as Tally
