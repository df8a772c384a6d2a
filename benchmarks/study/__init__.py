"""A study of manual inspection: plan, page, answers, analysis."""
