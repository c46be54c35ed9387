"""What goes out to other systems and what comes in from them, in HL7's FHIR R4."""
