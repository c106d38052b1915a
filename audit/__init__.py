"""The audit: who called which model when, with which key and result, and who changed which key, team or budget."""
