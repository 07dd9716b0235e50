"""Reports on trainings, from Tune's result files: tables and figures."""
