"""A first declaration of a log, drafted from its files.

profile     what the values of each raw column are like, measured by DuckDB
guesses     which role, kind and type that suggests, and why
draft       the declaration as text
"""
