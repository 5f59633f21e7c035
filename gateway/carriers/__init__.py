"""Carriers: one file each, all behind the port in carrier.py."""
