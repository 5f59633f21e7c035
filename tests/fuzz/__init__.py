"""Odd, wrong and hostile requests by the hundred thousand, at a gateway as it is started by hand."""
