"""The same run on Dask: sampling and scoring on workers of many machines, writing on one."""
