"""Running the product over years: doctor, backup, restore, upgrade, uninstall."""
