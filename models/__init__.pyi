from .config import RunConfig as RunConfig
from .config_file import load_config as load_config
from .networks.checkpoints import load_generator as load_generator
from .networks.checkpoints import read_generator as read_generator
from .networks.checkpoints import save_generator as save_generator
from .networks.generator import Generator as Generator
from .networks.generator import GeneratorConfig as GeneratorConfig
from .training.run import TrainingRun as TrainingRun
