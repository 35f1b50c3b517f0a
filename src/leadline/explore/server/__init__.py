"""The server of the explorer: requests, jobs, uploads and temporary folders."""
