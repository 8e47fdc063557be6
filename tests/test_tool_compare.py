"""A tool model beside its teacher: intervals that can be computed by hand, and whole comparisons without a model."""
