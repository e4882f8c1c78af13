"""What kind `openfoam` needs: finding it, writing its dictionaries, reading its results."""
