"""What a kind's section of a study file may hold, and the jobs' `spec` that it becomes."""
