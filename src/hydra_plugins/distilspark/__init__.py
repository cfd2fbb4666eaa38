"""Hydra's plugins of this project. Hydra imports all of them whenever a command starts: they are light."""
