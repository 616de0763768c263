# SPDX-License-Identifier: Apache-2.0
"""Policy: the selector language, the resources as users write them, and what a dataplane is given of them."""
