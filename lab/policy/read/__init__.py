# SPDX-License-Identifier: Apache-2.0
"""The border where users' YAML comes in: models of what it may say, and their conversion to resources."""
