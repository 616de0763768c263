# SPDX-License-Identifier: Apache-2.0
"""What a person who writes policies wants to be told: what is odd in them, and what a change of them changes."""
