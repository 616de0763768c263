# SPDX-License-Identifier: Apache-2.0
"""Dataplanes that are programs of their own, in any language: a class that names the command is the whole plugin."""

from dataplanes.external.plugin import ExternalDataplane

__all__ = ["ExternalDataplane"]
