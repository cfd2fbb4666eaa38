"""The loader module that models of version 0.1.0 name."""

from distilspark.package.pyfunc import _load_pyfunc as _load_pyfunc
