from pathlib import Path
from tests.kit.rights_matrix import document
