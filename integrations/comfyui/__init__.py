"""SigmaTune for ComfyUI: put this folder into custom_nodes; ComfyUI finds the two mappings below."""

import importlib.util
from pathlib import Path

# ComfyUI imports a pack under a name of its own making, so the nodes are loaded from beside this file.
_spec = importlib.util.spec_from_file_location("sigmatune_comfyui_nodes", Path(__file__).parent / "nodes.py")
_nodes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nodes)

NODE_CLASS_MAPPINGS = _nodes.NODE_CLASS_MAPPINGS
NODE_DISPLAY_NAME_MAPPINGS = _nodes.NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
