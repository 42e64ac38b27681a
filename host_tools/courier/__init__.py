"""The courier: who holds a device's label takes copies of its sealed frames along, and brings the answers back."""
