"""Hydra plugins of this project. Hydra imports all of them whenever a command starts, so imports must be light."""
