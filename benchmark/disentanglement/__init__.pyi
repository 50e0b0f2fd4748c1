from .dci import Importance as Importance
from .dci import dci as dci
from .factor_vae import factor_vae_score as factor_vae_score
from .information import mutual_information_gap as mutual_information_gap
from .measure import Disentanglement as Disentanglement
from .measure import measure_disentanglement as measure_disentanglement
